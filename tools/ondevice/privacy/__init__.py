"""What an update tells of the samples that it was trained on."""
