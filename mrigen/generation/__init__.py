"""What is made of latents: densities, samples, reconstructions, walks, mean heads."""
