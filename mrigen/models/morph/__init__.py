"""The morphing autoencoder: a VAE whose decoder moves a learned template."""
