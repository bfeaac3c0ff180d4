"""Fine-tuning: an encoder trained on labels."""
