"""Samplers: plain functions from noise to latents, and what streams need round them."""
