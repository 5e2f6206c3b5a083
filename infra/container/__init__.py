"""Headwater in containers: the image, what stands beside it, and who may do what in the stores."""
