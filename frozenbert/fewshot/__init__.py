"""Few labels: experts, distillation, and what to label next."""
