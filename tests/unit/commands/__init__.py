"""What the commands say."""
