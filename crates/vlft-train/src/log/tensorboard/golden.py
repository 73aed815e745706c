#!/usr/bin/env python3
"""Writes golden.tfevents beside this file: two events by TensorBoard's own protobuf classes and record writer.

    pip install tensorboard && python golden.py
"""
import os

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

BEGUN = 1_700_000_000.25
VALUES = [("train/loss", 1 / 300), ("train/grad_norm", 0.5), ("train/learning_rate", 1e-4), ("train/tokens_per_second", 200.0),
          ("train/data_wait_seconds", 0.25)]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.tfevents"), "wb") as f:
    writer = RecordWriter(f)
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in VALUES])
    for event in (Event(wall_time=BEGUN, file_version="brain.Event:2"), Event(wall_time=BEGUN + 0.5, step=300, summary=summary)):
        writer.write(event.SerializeToString(deterministic=True))
    writer.flush()
