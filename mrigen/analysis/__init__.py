"""What a run is worth: figures, diagnosis, maps of latents, segmentation."""
