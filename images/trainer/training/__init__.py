"""The code that runs in the trainer image. It exchanges only files with glue: `job.json` in,
`progress.jsonl` while it runs, `result.json` out. No Docker, no network."""
