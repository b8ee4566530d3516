"""What people run: the only place that prints, parses arguments and exits."""
