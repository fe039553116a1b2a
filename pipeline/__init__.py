"""What makes it run: the only package that touches the outside world."""
