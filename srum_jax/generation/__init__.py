"""Making many images: prompt files in, a folder of images and records out, resumable and byte-reproducible."""
