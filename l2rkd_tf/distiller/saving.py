"""What files hold of a distiller: both models, settings, teacher's weights, random states."""

import dataclasses
import os
from typing import Any

import keras

from l2rkd_tf.distiller.properties import DistillerProperties
from l2rkd_tf.distiller.seeds import load_seeds, save_seeds
from l2rkd_tf.teacher_cache.fingerprints import hash_weights
from l2rkd_tf.teachers.callable_teacher import check_functions
from l2rkd_tf.utils.types import Config, PathLike

__all__ = ["SavedDistiller"]

_TEACHER_FILE = "teacher.weights.h5"
_SEEDS_FILE = "seeds.npz"


class SavedDistiller(DistillerProperties):
    """Base class of distillers: their config, and the teacher's weights in whole-model files."""

    # Fingerprint of the teacher's weights, if a config made them: those of no training.
    _untrained_teacher: str | None = None

    def save(self, filepath: PathLike, *args: Any, **kwargs: Any) -> None:
        """Saves distiller and teacher, as `keras.Model.save`, in Keras's own format.

        Args:
            filepath: Path of a file that ends in `.keras`.
            *args: As in Keras.
            **kwargs: As in Keras.

        Raises:
            ValueError: If `filepath` has another ending: the HDF5 format has no place for the
                teacher, so that a loaded distiller would have a teacher with random weights.
        """
        if not os.fspath(filepath).endswith(".keras"):
            raise ValueError(
                "`filepath` must end in .keras: other formats leave out the teacher's weights. "
                f"Received: filepath={os.fspath(filepath)!r}. To keep only the student, use "
                "distiller.student.save(filepath)."
            )
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> Config:
        """Arguments of the constructor, with both models' architectures."""
        serialize = keras.saving.serialize_keras_object
        teacher, preprocessing = self._teacher.given
        return super().get_config() | {
            "teacher": serialize(teacher),
            "student": serialize(self.student),
            "teacher_preprocessing": serialize(preprocessing),
            "region": None if self.region is None else serialize(self.region),
            **dataclasses.asdict(self._settings),
            "temperature": self.temperature,
            "hard_weight": self.hard_weight,
            "kd_weight": self.kd_weight,
            "region_weight": self.region_weight,
            "distillation_losses": [serialize(method) for method in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "distillation_losses_at": list(self.distillation_losses_at),
            "features": serialize(self._student_forward.features_argument),
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: dict[str, Any] | None = None
    ) -> "SavedDistiller":
        """Makes a distiller from `get_config()`; both models have new weights.

        It trains once the teacher has been given its own: `distiller.get_teacher().set_weights`.
        """
        objects = (
            *("teacher", "student", "teacher_preprocessing", "region", "dtype"),
            *("distillation_losses", "features"),
        )
        deserialize = keras.saving.deserialize_keras_object
        distiller = cls(
            **{
                name: deserialize(value, custom_objects) if name in objects else value
                for name, value in config.items()
            }
        )
        teacher = distiller.get_teacher()
        if teacher is not None and teacher.weights:
            distiller._untrained_teacher = hash_weights(teacher)
        return distiller

    def make_train_function(self, force: bool = False) -> None:
        """As in Keras.

        Raises:
            ValueError: If the teacher has the random weights of a model that a config made, or
                lacks a function.
        """
        teacher = self.get_teacher()
        check_functions(teacher)
        if self._untrained_teacher is not None and teacher is not None:
            if hash_weights(teacher) == self._untrained_teacher:
                raise ValueError(
                    "`teacher` must be trained. Received: a distiller made by from_config or "
                    "clone_model, or loaded from a file that is not .keras, whose teacher has new, "
                    "random weights. Save with distiller.save('distiller.keras') and load that, or "
                    "call distiller.get_teacher().set_weights(trained_teacher.get_weights())."
                )
            self._untrained_teacher = None
            if self.region is not None:
                self.region.set_teacher(teacher)
        super().make_train_function(force)

    def save_assets(self, directory: str) -> None:
        """Stores what Keras leaves out of whole-model files: teacher's weights, random states."""
        save_seeds(self, os.path.join(directory, _SEEDS_FILE))
        teacher = self.get_teacher()
        if teacher is not None:
            teacher.save_weights(os.path.join(directory, _TEACHER_FILE))

    def load_assets(self, directory: str) -> None:
        """Restores from a whole-model file what `save_assets` has stored."""
        load_seeds(self, os.path.join(directory, _SEEDS_FILE))
        teacher = self.get_teacher()
        if teacher is None:
            return
        teacher.load_weights(os.path.join(directory, _TEACHER_FILE))
        self._untrained_teacher = None
        if self.region is not None:
            self.region.set_teacher(teacher)
