"""Trainers of Uni-COAL: any modality from any other, at any slice distance."""
