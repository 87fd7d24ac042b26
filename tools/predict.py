"""Poses of very many pictures as tables: `python tools/predict.py --help` says how. Installed, it is `pose-predict`."""

from pose.commands.entry import predict

if __name__ == "__main__":
    predict()
