"""What is remembered, and what is computed over it."""
