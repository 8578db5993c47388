"""What the machine gives: files that appear whole or not at all, progress, stopping, what it has to offer."""
