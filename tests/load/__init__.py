"""`make bench`: what the system can do, measured from outside through the gateway."""
