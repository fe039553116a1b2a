"""What people see in the terminal while the loop runs."""
