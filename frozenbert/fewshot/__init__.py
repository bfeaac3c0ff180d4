"""Few labels: experts, distillation, and suggestions of texts to label next."""
