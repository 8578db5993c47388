"""The plain autoencoder: the squared error, and nothing beside it."""
