from lightning_seg.launch.derived import insert_class_weights
from lightning_seg.runs.kept import FROM_ENVIRONMENT, GIVEN


def test_estimates_of_class_weights_are_replaced_in_the_configuration_and_not_in_what_was_typed() -> None:
    typed = {"class_weights": "[1,2]"}
    config = {
        "loss": {"terms": [{"class_weights": "median_frequency"}], "class_weights": [3.0, 4.0]},
        GIVEN: dict(typed),
        FROM_ENVIRONMENT: {"class_weights": "${oc.env:WEIGHTS}"},
    }
    insert_class_weights(config, {"median_frequency": [1.0, 2.0]}.__getitem__)
    assert config["loss"] == {"terms": [{"class_weights": [1.0, 2.0]}], "class_weights": [3.0, 4.0]}
    assert config[GIVEN] == typed
    assert config[FROM_ENVIRONMENT] == {"class_weights": "${oc.env:WEIGHTS}"}
