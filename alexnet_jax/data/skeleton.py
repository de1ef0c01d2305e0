"""The fourteen joints of a person: Leeds Sports Pose's names and order, and how they hang together.

Johnson and Everingham 2010. Right and left are the person's own.
"""

from __future__ import annotations

JOINTS = (
    "right ankle",
    "right knee",
    "right hip",
    "left hip",
    "left knee",
    "left ankle",
    "right wrist",
    "right elbow",
    "right shoulder",
    "left shoulder",
    "left elbow",
    "left wrist",
    "neck",
    "head top",
)

# A mirror image turns every right joint into a left one.
MIRRORED_JOINTS = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)

# The lower and upper half of each leg and arm, outer end first: what PCP judges.
LIMBS = ((0, 1), (1, 2), (5, 4), (4, 3), (6, 7), (7, 8), (11, 10), (10, 9))

# The rest of a drawn figure: head, shoulders, sides, hips.
TRUNK = ((13, 12), (8, 12), (9, 12), (2, 8), (3, 9), (2, 3))

# From a shoulder to the other side's hip: the length of a torso (Sapp and Taskar 2013).
DIAGONALS = ((8, 3), (9, 2))
HEAD = (12, 13)
