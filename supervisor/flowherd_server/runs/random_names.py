"""Random two-word names for flow runs that were given none, easy to say and to tell apart."""

from __future__ import annotations

import random

_HOW = """
able amber brave bright brisk calm clever copper crisp daring deft eager early fair fleet fond frank fresh
gentle glad golden grand hardy hazel honest humble ivory jolly keen kind lively loyal lucky mellow mild misty
modest nimble noble olive patient placid plucky polite proud quick quiet ready rustic sage sandy silver
sincere smart snowy solid spry stable steady stout sturdy subtle sunny swift tidy trusty upbeat vivid warm
wise witty zesty
"""
_WHAT = """
alpaca antelope auk badger beaver bison boar bobcat camel caribou cheetah chough collie cow crane deer dingo
donkey dove eagle egret elk ewe falcon ferret finch fox gazelle gecko goat goose grouse hare hawk hedgehog
heron horse ibex jackdaw kestrel kite lamb lark lemur linnet llama lynx magpie marmot marten moose mule newt
otter owl ox pony puffin quail ram raven robin salmon seal shrew stag stoat stork swan tapir thrush trout vole
wren yak zebu
"""


def random_name() -> str:
    """Return a name such as "brisk-otter"; it need not be unique."""
    return f"{random.choice(_HOW.split())}-{random.choice(_WHAT.split())}"
