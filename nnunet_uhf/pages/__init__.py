"""What the HTML pages for people share: one style and one template engine. Imports nothing of the other rooms."""
