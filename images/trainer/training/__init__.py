"""What runs inside the trainer image, and nowhere else. It meets the rest of glue in files only:
`job.json` in, `progress.jsonl` while it runs, `result.json` out. No Docker, no network."""
