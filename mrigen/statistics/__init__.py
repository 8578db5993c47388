"""Statistics of the field, without TensorFlow: principal components, posterior collapse."""
