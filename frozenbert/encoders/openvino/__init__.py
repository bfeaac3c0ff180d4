"""OpenVINO graphs of encoders: export one, quantize it, compile and run it."""
