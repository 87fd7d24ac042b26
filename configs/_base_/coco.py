# COCO 2017 keypoints as docs/protocol.md#schedule has it: 256 x 192, 210 epochs of Adam, detector boxes at test time.
data = dict(
    root="data/coco",
    train=dict(annotations="annotations/person_keypoints_train2017.json", images="train2017"),
    val=dict(
        annotations="annotations/person_keypoints_val2017.json",
        images="val2017",
        boxes="person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
    ),
    input_size=(192, 256),
)
train = dict(
    epochs=210,
    batch_size=128,  # HRNet's 32 on each of 4 GPUs
    learning_rate=1e-3,
    milestones=(170, 200),
    gamma=0.1,
    validate_every=10,
)
