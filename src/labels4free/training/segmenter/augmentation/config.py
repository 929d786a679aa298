"""Every knob of the augmentation of a segmenter's pairs."""

from __future__ import annotations

from dataclasses import dataclass

from labels4free.errors import ConfigError
from labels4free.settings_fields import check_types, fraction, positive


@dataclass(frozen=True)
class PairAugmentationConfig:
    """Data augmentation of pairs: what is changed, in which fraction of the examples, in [0, 1]; 0 is off."""

    geometry: bool = True
    """Scale, turn and shift the picture; edges go on beyond the border. Objects that touch the upper edge stay there:
    nobody's head is cut off by nothing."""
    min_scale: float = 0.36
    """Least side of the picture in sides of the canvas, where it gets another background; 0.75 where it keeps it."""
    max_scale: float = 1.35
    """Greatest side of the picture, which is then cropped."""
    rotation: float = 17.0
    """Largest angle, in degrees; less for objects that touch the upper edge."""
    mirror: float = 0.5
    """Exchange left and right."""
    body_completion: float = 0.85
    """Of the objects that get another background and become smaller: carry on beyond the picture's edges what these cut
    off, with a rounded top, widening shoulders and a body of some texture."""
    garments: float = 0.5
    """Of the completed objects: paint clothes of some texture over them, from a neckline down."""
    arms: float = 0.45
    """Of the completed objects: give them arms and hands."""
    occluders: float = 0.2
    """Of the objects that get another background: put something before their border, of which it then is a part."""
    copy_paste: float = 0.1
    """Of the objects that get another background: put another one beside them, which is object as well."""
    background: float = 0.75
    """Lay the object over another background: ..."""
    surroundings: float = 0.3
    """... of those, the fraction of other pairs' own surroundings, their objects filled in from around them, ..."""
    textures: float = 0.12
    """... the fraction of details of other pairs, enlarged; ..."""
    pictures: float = 0.4
    """... and the fraction of the user's background pictures, if there are any. All others are procedural."""
    empty: float = 0.02
    """Leave the object out: a background alone, whose mask is empty."""
    defocus: float = 0.35
    """Blur such a background by up to 5 pixels (of 256)."""
    object_tone: float = 0.7
    """Change light and colour of an object on another background, apart from it."""
    background_tone: float = 0.5
    """Change light and colour of such a background alone."""
    camouflage: float = 0.2
    """Bring the mean colour of such a background near that of the object, toward its lower end."""
    side_light: float = 0.3
    """Light such an object from one side."""
    occlusion: float = 0.12
    """Put a patch of texture before the middle of the object, of which it then is a part."""
    tone: float = 0.8
    """Change light and colour of the whole picture: gamma, exposure, white balance, saturation, brightness."""
    uneven_light: float = 0.15
    """Light the whole picture by a spot of some colour, the rest of it being down to a tenth as bright."""
    grey: float = 0.06
    """Take the colour away."""
    blur: float = 0.3
    """Blur the whole picture by up to 1.8 pixels (of 256)."""
    resampling: float = 0.3
    """Shrink the picture to a quarter of its side or more, and enlarge it again."""
    noise: float = 0.4
    """Add noise of up to 0.12, in units of the image range [-1, 1]."""
    jpeg: float = 0.4
    """Write and read the picture as JPEG of a quality from 25 to 94."""

    def __post_init__(self) -> None:
        check_types(self, "augmentation.")
        for name in FRACTIONS:
            fraction(f"augmentation.{name}", getattr(self, name))
        positive("augmentation.min_scale", self.min_scale)
        if not self.min_scale <= self.max_scale <= 4:
            raise ConfigError(
                "augmentation.min_scale and augmentation.max_scale must satisfy 0 < min <= max <= 4, got "
                f"{self.min_scale} and {self.max_scale}."
            )
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"augmentation.rotation must lie in [0, 180] degrees, got {self.rotation}.")
        if self.surroundings + self.textures > 1:
            raise ConfigError(
                "augmentation.surroundings and augmentation.textures are fractions of the backgrounds and must not "
                f"exceed 1 together, got {self.surroundings} and {self.textures}."
            )


FRACTIONS = (
    "mirror",
    "body_completion",
    "garments",
    "arms",
    "occluders",
    "copy_paste",
    "background",
    "empty",
    "surroundings",
    "textures",
    "pictures",
    "defocus",
    "object_tone",
    "background_tone",
    "camouflage",
    "side_light",
    "occlusion",
    "tone",
    "uneven_light",
    "grey",
    "blur",
    "resampling",
    "noise",
    "jpeg",
)
"""The fields of :class:`PairAugmentationConfig` that are fractions of the examples."""
