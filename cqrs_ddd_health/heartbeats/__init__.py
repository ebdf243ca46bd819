"""Beats of workers: where they are kept, and what follows from them."""
