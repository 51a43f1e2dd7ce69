"""Evolutionary search: the candidates with the largest summed contribution within a budget."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from ondevice.search.space import Candidate, SearchSpace

PARENT_SHARE = 0.25
MUTATED_GENES = 1.5  # Expected, of one mutation.


@dataclass(frozen=True)
class Cost:
    """What a candidate takes.

    Attributes:
        ram_bytes: Of the model's buffers and the board's stack.
        macs: Multiply-accumulates of a training step.
    """

    ram_bytes: int
    macs: int


@dataclass(frozen=True)
class Limits:
    """What a candidate may take.

    Attributes:
        ram_bytes: As in `Cost`.
        macs: As in `Cost`; None: any number.
    """

    ram_bytes: int
    macs: int | None = None

    def allow(self, cost: Cost) -> bool:
        """Whether it fits."""
        return cost.ram_bytes <= self.ram_bytes and (self.macs is None or cost.macs <= self.macs)


@dataclass(frozen=True)
class EvolutionSettings:
    """How long and how wide to search.

    Attributes:
        population: Candidates kept from generation to generation.
        generations: At most; see `patience`.
        patience: Generations without a better candidate that end the search.
        seed: Of all random choices.
    """

    population: int = 64
    generations: int = 100
    patience: int = 25
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """A candidate that fits.

    Attributes:
        candidate: Itself.
        gain: Summed contribution.
        cost: What it takes.
    """

    candidate: Candidate
    gain: float
    cost: Cost

    @property
    def rank(self) -> tuple[float, int, int, Candidate]:
        """Orders the best first: most gain, then least RAM, then fewest MACs."""
        return (-self.gain, self.cost.ram_bytes, self.cost.macs, self.candidate)


def evolve(
    space: SearchSpace,
    gain: Callable[[Candidate], float],
    cost: Callable[[Candidate], Cost],
    limits: Limits,
    settings: EvolutionSettings,
    on_generation: Callable[[int, Scored], None] = lambda generation, best: None,
) -> list[Scored]:
    """Searches; deterministic for a seed.

    Parents are the best quarter. A child is a crossover or a mutation; one that does not fit is
    stripped, at random, until it does. Exact costs are dear: what could not enter the population is
    not asked for. In the end the best is followed up to where no one-place neighbour is better.

    Args:
        space: All candidates; its smallest must fit.
        gain: What to maximise.
        cost: Exact; asked once a candidate.
        limits: Never exceeded.
        settings: Size and seed.
        on_generation: Called with the number of each generation and the best so far.

    Returns:
        Everything that fits and was seen, best first.
    """
    generator = random.Random(settings.seed)
    costs: dict[Candidate, Cost] = {}
    seen: dict[Candidate, Scored] = {}

    def fits(candidate: Candidate) -> bool:
        if candidate not in costs:
            costs[candidate] = cost(candidate)
        return limits.allow(costs[candidate])

    def score(candidate: Candidate) -> Scored:
        if candidate not in seen:
            seen[candidate] = Scored(candidate, gain(candidate), costs[candidate])
        return seen[candidate]

    def admit(candidate: Candidate, least_gain: float = -math.inf) -> list[Scored]:
        chain = _stripped_chain(candidate, generator)
        chosen = _largest_that_fits([c for c in chain if gain(c) >= least_gain], fits)
        return [] if chosen is None else [score(chosen)]

    drawn = [space.smallest, *(_random(space, generator) for _ in range(settings.population - 1))]
    population = _best({scored for c in drawn for scored in admit(c)}, settings.population)
    found, best = 0, population[0]
    for generation in range(1, settings.generations + 1):
        parents = population[: max(2, int(PARENT_SHARE * settings.population))]
        children = set()
        for number in range(settings.population):
            first, second = generator.choice(parents), generator.choice(parents)
            child = _crossed(first.candidate, second.candidate, generator)
            if number % 2 or child == first.candidate:
                child = _mutated(child, space, generator)
            full = len(population) == settings.population
            children.update(admit(child, population[-1].gain if full else -math.inf))
        population = _best({*population, *children}, settings.population)
        if population[0].rank < best.rank:
            found, best = generation, population[0]
        on_generation(generation, best)
        if generation - found >= settings.patience:
            break
    while True:  # climb
        around = [c for c in space.neighbours(best.candidate) if gain(c) >= best.gain and fits(c)]
        better = min((score(c) for c in around), key=lambda scored: scored.rank, default=best)
        if better.rank >= best.rank:
            return _best(set(seen.values()), len(seen))
        best = better


def budget_ladder(smallest: Cost, limits: Limits, rungs: int) -> list[Limits]:
    """The limits, then ever less RAM, evenly down towards the smallest candidate's.

    The best candidates of one budget are alike; those of smaller ones tell what RAM is worth.
    """
    spare = limits.ram_bytes - smallest.ram_bytes
    return [Limits(limits.ram_bytes - spare * rung // rungs, limits.macs) for rung in range(rungs)]


def _best(scored: set[Scored], count: int) -> list[Scored]:
    return sorted(scored, key=lambda one: one.rank)[:count]


def _random(space: SearchSpace, generator: random.Random) -> Candidate:
    """Sparse ones and dense ones alike."""
    density = generator.random()
    shares = tuple(
        generator.randint(1, len(shares)) if generator.random() < density else 0
        for shares in space.shares
    )
    return Candidate(generator.randint(0, len(space.biases)), shares)


def _stripped_chain(candidate: Candidate, generator: random.Random) -> list[Candidate]:
    """The candidate with less and less, at random, down to the smallest one."""
    chain = [candidate]
    while candidate.biases or any(candidate.shares):
        candidate = _stripped(candidate, generator)
        chain.append(candidate)
    return chain


def _stripped(candidate: Candidate, generator: random.Random) -> Candidate:
    """Fewer biases, or a smaller share of one weight."""
    trained = [index for index, share in enumerate(candidate.shares) if share]
    choice = generator.randrange(len(trained) + (candidate.biases > 0))
    if choice == len(trained):
        return Candidate(generator.randrange(candidate.biases), candidate.shares)
    shares = list(candidate.shares)
    shares[trained[choice]] = generator.randrange(shares[trained[choice]])
    return Candidate(candidate.biases, tuple(shares))


def _largest_that_fits(
    chain: list[Candidate], fits: Callable[[Candidate], bool]
) -> Candidate | None:
    """By bisection, as if a candidate with less always took less; None where none was seen to."""
    low, high = 0, len(chain)
    while low < high:
        middle = (low + high) // 2
        if fits(chain[middle]):
            high = middle
        else:
            low = middle + 1
    return chain[low] if low < len(chain) else None


def _crossed(first: Candidate, second: Candidate, generator: random.Random) -> Candidate:
    """Each gene from one of the two."""
    genes = zip((first.biases, *first.shares), (second.biases, *second.shares), strict=True)
    biases, *shares = (generator.choice(pair) for pair in genes)
    return Candidate(biases, tuple(shares))


def _mutated(candidate: Candidate, space: SearchSpace, generator: random.Random) -> Candidate:
    """One gene drawn anew, and each other one with a small chance."""
    sizes = (len(space.biases), *(len(shares) for shares in space.shares))
    genes = [candidate.biases, *candidate.shares]
    sure = generator.randrange(len(genes))
    for index, size in enumerate(sizes):
        if index == sure or generator.random() < (MUTATED_GENES - 1) / len(genes):
            genes[index] = generator.randint(0, size)
    return Candidate(genes[0], tuple(genes[1:]))
