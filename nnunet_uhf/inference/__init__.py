"""What a network says of a scan: sliding windows, enhancement, input check. Imports `guidance` and what is below."""
