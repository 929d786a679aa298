"""Flags of RameenAbdal/Labels4Free and rosinality/stylegan2-pytorch, and what they are called here.

``docs/from_the_original.md`` is the same as a page; a test compares both.
"""

from __future__ import annotations

_SIZE = {
    "--size": "is not needed: the checkpoint says it",
    "--channel_multiplier": "is not needed: the checkpoint says it",
}
_BATCH = {"--batch": "is --batch-size"}
_CKPT = {"--ckpt": "is GENERATOR, the first argument"}
_AUGMENTATION = {
    "--augment": "is --set augmentation.mode=adaptive, or fixed",
    "--augment_p": "is --set augmentation.probability=P, with augmentation.mode=fixed",
    "--ada_target": "is --set augmentation.target=T",
    "--ada_length": "is --set augmentation.length=IMAGES",
    "--ada_every": "is --set augmentation.interval=STEPS",
}

ORIGINAL_FLAGS: dict[str, dict[str, str]] = {
    "train": {
        **_SIZE,
        **_CKPT,
        **_BATCH,
        **_AUGMENTATION,
        "--path": "is --data IMAGES",
        "--iter": "is --steps",
        "--lr": "is --set alpha.learning_rate=LR, and discriminator.learning_rate for the discriminator's",
        "--trunc": "is --set samples.truncation_psi=PSI, with a preset of the paper's recipe",
        "--loss_multiplier": "is --set loss.binarization=W; the paper's presets have loss.foreground_coverage, too",
        "--bg_coverage_wt": "is --set loss.background_coverage=W, with a preset of the paper's recipe",
        "--bg_coverage_value": "is --set loss.min_background_coverage=FRACTION",
        "--fg_coverage_value": "is --set loss.min_foreground_coverage=FRACTION",
        "--sat_weight": "is --set loss.adversarial=W, with a preset of the paper's recipe",
        "--r1": "is --set discriminator.r1_gamma=GAMMA",
        "--d_reg_every": "is --set discriminator.r1_interval=STEPS",
        "--g_reg_every": "is --set alpha.lazy_interval=STEPS, with a preset of the paper's recipe",
        "--mixing": "is --set samples.style_mixing=FRACTION, with a preset of the paper's recipe",
        "--use_disc": "is --discriminator generator",
        "--reproduce_model": "is the preset: --preset ffhq-paper, horse-paper, cat-paper or car-paper",
        "--model_save_freq": "is --set checkpoint_interval=STEPS",
        "--n_sample": "is not needed: pictures have a size of their own",
        "--wandb": "is --track wandb",
    },
    "sample": {
        **_BATCH,
        "--channel_multiplier": "is not needed: the checkpoint says it",
        "--n_sample": "is --num",
        "--ckpt_bg_extractor": "is RUN_OR_ALPHA, the first argument",
        "--ckpt_generator": "is --generator",
        "--th": "is --threshold",
    },
    "evaluate": {"--path_gt": "is --gt", "--path_pred": "is --pred"},
    "train-generator": {
        **_BATCH,
        **_AUGMENTATION,
        "--arch": "is not here: only StyleGAN2 is trained, no SWAGAN",
        "--iter": "is --kimg: thousands of images seen, not steps",
        "--size": "is --resolution",
        "--channel_multiplier": "is --set network.channel_base=16384 times M",
        "--r1": "is --set discriminator.r1_gamma=GAMMA",
        "--d_reg_every": "is --set discriminator.r1_interval=STEPS",
        "--path_regularize": "is --set generator.path_length=W",
        "--path_batch_shrink": "is --set generator.path_length_shrink=N",
        "--g_reg_every": "is --set generator.path_length_interval=STEPS",
        "--mixing": "is --set generator.style_mixing=FRACTION, drawn for each sample",
        "--lr": "is --set generator.learning_rate=LR, and discriminator.learning_rate for the discriminator's",
        "--ckpt": "is --pretrained to begin with another's, --resume to go on with a run",
        "--n_sample": "is not needed: grids have 48 pictures",
        "--wandb": "is --track wandb",
    },
    "prepare": {
        "--out": "is OUT, the second argument",
        "--n_worker": "is --workers",
        "--size": "is --sizes",
    },
    "convert": {
        "--repo": "is not needed: NVIDIA's files are read without their code",
        "--gen": "is not needed: all networks of the file are written",
        "--disc": "is not needed: all networks of the file are written",
        "--channel_multiplier": "is not needed: the checkpoint says it",
    },
    "generate": {
        **_CKPT,
        "--channel_multiplier": "is not needed: the checkpoint says it",
        "--sample": "is --seeds; a picture is written for each",
        "--pics": "is --seeds, such as 0-19",
        "--truncation": "is --truncation-psi",
        "--truncation_mean": "is not needed: the checkpoint has the mean of w",
        "-i": "is --direction",
        "--index": "is --direction",
        "-d": "is --by, such as -5,0,5",
        "--degree": "is --by, such as -5,0,5",
        "-n": "is --seeds, such as 0-6",
        "--n_sample": "is --seeds, such as 0-6",
        "--out_prefix": "is --out",
    },
    "project": {
        "--ckpt": "is --generator",
        "--size": "is not needed: the checkpoint says it",
        "--step": "is --steps",
        "--w_plus": "is --space w+",
        "--lr": "is --set learning_rate=LR",
        "--lr_rampup": "is --set rampup=FRACTION",
        "--lr_rampdown": "is --set rampdown=FRACTION",
        "--noise": "is --set latent_noise=DEVIATION",
        "--noise_ramp": "is --set latent_noise_ramp=FRACTION",
        "--noise_regularize": "is --set noise_regularizer=W, with --noise-maps",
        "--mse": "is --set pixels=W",
    },
    "directions": _CKPT,
    "metrics": {
        **_CKPT,
        **_SIZE,
        "--batch": "is --batch-size",
        "--n_sample": "is in the metric's name, such as fid50k or ppl_wend_5k",
        "--truncation": "is --psi",
        "--truncation_mean": "is not needed: the checkpoint has the mean of w",
        "--inception": "is not needed: --data IMAGES, whose statistics are kept in the cache",
        "--space": "is in the metric's name: ppl_w... or ppl_z...",
        "--sampling": "is in the metric's name: ppl_wend or ppl_wfull",
        "--eps": "is --epsilon",
        "--crop": "is in the metric's name: ppl_... crops, ppl2_wend does not",
        "--flip": "is not here: real images are never mirrored",
    },
}
"""Verb -> flag of the originals' program that does the same -> what it is here, as the end of a sentence."""
