"""The case study's figures for the day: Signal65, "NVIDIA DGX Spark case study", June 2026,
through Open WebUI on one DGX Spark."""

from __future__ import annotations

SOURCE = (
    "Signal65, NVIDIA DGX Spark case study: RAG inference by day, fine-tuning by night, June 2026"
)
# users -> average, median, P99
FIRST_EVENT_SECONDS = {
    1: (4.6, 4.5, 5.2),
    2: (5.3, 5.3, 7.2),
    4: (7.4, 7.1, 9.9),
    8: (11.2, 11.2, 20.5),
}
TOKENS_PER_SECOND = {
    1: (56.3, 56.5, 56.6),
    2: (51.3, 51.1, 53.1),
    4: (38.8, 37.5, 43.5),
    8: (28.5, 27.2, 42.7),
}
TOTAL_TOKENS_PER_SECOND = {1: 56, 2: 103, 4: 155, 8: 228}
# the swap: time to load the model, the same in the evening and in the morning
LOAD_SECONDS = 7.1 * 60
