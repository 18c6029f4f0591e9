"""The networks: what they are, what they are shown, how they learn, what file they become."""
