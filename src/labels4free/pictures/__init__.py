"""Pictures as bytes and files: rounding, PNG, contact sheets, films. Knows nothing of what they show."""
