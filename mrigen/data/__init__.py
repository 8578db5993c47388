"""Who is in a cohort, what their images become, and how they reach a model."""
