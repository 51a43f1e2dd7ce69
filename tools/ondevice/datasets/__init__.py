"""Data sets in files and folders: what is read, held out and made into a model's samples."""
