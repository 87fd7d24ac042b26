# Leeds Sports Pose and its extension: 10,998 persons to train on, the official 1,000 to test on; 256 x 192.
# tools/split_dataset.py data/lsp/person_keypoints_train.json --hold-out 500 makes what is trained on and chosen by.
data = dict(
    root="data/lsp",
    train=dict(annotations="person_keypoints_train_fit.json", images="images"),
    val=dict(annotations="person_keypoints_train_held_out.json", images="images", boxes="annotated"),
    test=dict(annotations="person_keypoints_test.json", images="images"),
    skeleton="skeleton.json",  # in the folder of the configurations
    input_size=(192, 256),
    crop_cache="crops",
)
train = dict(
    epochs=140,  # the papers' 210, shortened
    batch_size=32,
    learning_rate=1e-3,
    milestones=(113, 133),
    gamma=0.1,
    validate_every=5,
)
