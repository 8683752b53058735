"""The audits: what the images and their split could make a figure worth, before any training."""
