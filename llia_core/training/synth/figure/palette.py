"""Colour ramps and hair styles. Colours are sRGB in [0, 1]."""

SKIN = [  # light to dark
    [0.97, 0.84, 0.77], [0.96, 0.80, 0.70], [0.93, 0.76, 0.64], [0.90, 0.72, 0.57], [0.85, 0.65, 0.49],
    [0.78, 0.57, 0.41], [0.69, 0.48, 0.34], [0.60, 0.40, 0.26], [0.51, 0.32, 0.21], [0.43, 0.27, 0.19],
]  # fmt: skip
HAIR = [
    [0.07, 0.06, 0.07], [0.11, 0.08, 0.08], [0.16, 0.10, 0.07], [0.25, 0.15, 0.09], [0.36, 0.22, 0.13],
    [0.50, 0.24, 0.12], [0.60, 0.33, 0.15], [0.66, 0.47, 0.25], [0.80, 0.64, 0.40], [0.90, 0.80, 0.60],
]  # fmt: skip
IRIS = [[0.24, 0.13, 0.07], [0.36, 0.20, 0.10], [0.48, 0.32, 0.14], [0.35, 0.46, 0.24], [0.25, 0.50, 0.45],
        [0.28, 0.50, 0.70], [0.42, 0.58, 0.72]]  # fmt: skip
LIPSTICK = [[0.78, 0.13, 0.20], [0.82, 0.28, 0.36], [0.62, 0.12, 0.25], [0.85, 0.42, 0.40], [0.72, 0.35, 0.38],
            [0.50, 0.13, 0.24]]  # fmt: skip
CLOTHES = [
    [0.93, 0.92, 0.90], [0.15, 0.17, 0.22], [0.20, 0.32, 0.52], [0.78, 0.30, 0.27], [0.92, 0.70, 0.30],
    [0.30, 0.52, 0.45], [0.55, 0.36, 0.56], [0.88, 0.60, 0.58], [0.40, 0.42, 0.46], [0.16, 0.45, 0.58],
    [0.62, 0.48, 0.36], [0.50, 0.62, 0.40],
]  # fmt: skip
SCENES = [  # pairs: two ends of the background's gradient
    [0.98, 0.78, 0.58, 0.93, 0.50, 0.48], [0.64, 0.82, 0.93, 0.32, 0.52, 0.80], [0.74, 0.90, 0.82, 0.28, 0.60, 0.60],
    [0.95, 0.90, 0.82, 0.80, 0.68, 0.56], [0.82, 0.76, 0.94, 0.48, 0.42, 0.74], [0.99, 0.86, 0.62, 0.96, 0.62, 0.35],
    [0.38, 0.43, 0.53, 0.16, 0.19, 0.28], [0.92, 0.94, 0.96, 0.70, 0.76, 0.82], [0.98, 0.80, 0.82, 0.80, 0.46, 0.60],
    [0.30, 0.52, 0.50, 0.10, 0.24, 0.30], [0.90, 0.88, 0.72, 0.56, 0.66, 0.46], [0.55, 0.72, 0.98, 0.96, 0.72, 0.80],
]  # fmt: skip

# cap: hair's thickness round the skull, cap_top: more of it on top, fringe: how far it falls over the forehead,
# sweep: rise of the hairline at the part, side: how far down the temples, back*: the mass behind head and neck
# (width, bottom, presence), curl, bun, recede: bare temples, hair_alpha: density on the scalp.
STYLE_FIELDS = (
    "cap", "cap_top", "fringe", "sweep", "side", "back_w", "back_y", "back", "curl", "curl_size", "bun", "recede",
    "hair_alpha",
)  # fmt: skip
_BASE = {"hair_alpha": 1, "curl_size": 20, "back_w": 0.55, "back_y": 0.2}
HAIR_STYLES = {
    "bald": {"who": (1.0, 0.25), "hair_alpha": 0},
    "buzz": _BASE | {"who": (1.2, 0.3), "cap": 0.015, "side": 0.50, "recede": 0.5, "hair_alpha": 0.8},
    "short": _BASE | {"who": (1.6, 0.4), "cap": 0.045, "cap_top": 0.06, "fringe": 0.05, "sweep": 0.15, "side": 0.50},
    "side_part": _BASE | {"who": (1.5, 0.5), "cap": 0.040, "cap_top": 0.08, "fringe": 0.02, "sweep": 0.42,
                          "side": 0.48},
    "quiff": _BASE | {"who": (1.2, 0.3), "cap": 0.025, "cap_top": 0.16, "fringe": -0.03, "sweep": 0.05, "side": 0.46,
                      "recede": 0.35, "curl": 0.010, "curl_size": 14},
    "long_straight": _BASE | {"who": (0.35, 1.6), "cap": 0.050, "cap_top": 0.02, "sweep": 0.55, "side": 0.85,
                              "back": 1, "back_w": 0.58, "back_y": 1.05},
    "wavy": _BASE | {"who": (0.4, 1.5), "cap": 0.065, "cap_top": 0.03, "sweep": 0.50, "side": 0.85, "back": 1,
                     "back_w": 0.62, "back_y": 0.88, "curl": 0.022, "curl_size": 9},
    "bob": _BASE | {"who": (0.1, 1.4), "cap": 0.065, "cap_top": 0.02, "fringe": 0.04, "sweep": 0.35, "side": 0.95,
                    "back": 1, "back_w": 0.60, "back_y": 0.50},
    "afro": _BASE | {"who": (0.7, 0.8), "cap": 0.150, "cap_top": 0.05, "side": 0.50, "back": 1, "back_w": 0.62,
                     "back_y": 0.20, "curl": 0.016, "curl_size": 30},
    "curly": _BASE | {"who": (1.0, 0.9), "cap": 0.080, "cap_top": 0.07, "fringe": 0.10, "side": 0.52, "curl": 0.018,
                      "curl_size": 24},
    "bun": _BASE | {"who": (0.2, 1.1), "cap": 0.025, "cap_top": 0.02, "sweep": 0.05, "side": 0.44, "bun": 0.16},
    "fringe": _BASE | {"who": (0.2, 1.3), "cap": 0.060, "cap_top": 0.02, "fringe": 0.22, "side": 0.95, "back": 1,
                       "back_w": 0.58, "back_y": 0.75},
}  # fmt: skip
