"""What a cohort's images are worth before anything is learned from them."""
