"""First and second moments of q, the weight taken from the partner image."""
