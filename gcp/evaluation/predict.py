"""`gcp evaluate --checkpoint MODEL --predict FOLDER [CSV]`: classes of images without labels."""

from gcp.engine.distributed import Group
from gcp.evaluation.files import prediction_rows, write_csv
from gcp.evaluation.unlabelled import class_names, file_set, images_in
from gcp.runs.scored_model import Contestant


def predict(contestant: Contestant, folder: str, file: str = "predictions.csv", *, group: Group) -> None:
    """Write the best classes of every image in a folder.

    Raises:
        DataError: no images, or one that cannot be read.
    """
    paths = images_in(folder)
    names = class_names(contestant)
    samples = contestant.run(file_set(contestant, paths), group)
    if group.main:
        write_csv(file, prediction_rows(samples, names, paths, labelled=False))
    print(f"{'images':<12}{len(paths)} in {folder}\n{'predictions':<12}{file}")
