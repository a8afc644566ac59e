"""Meanings of a report's words, those first that any run needs."""

ALWAYS = (
    ("layer k", "The residual after block k, at a statement's last token, before any final norm."),
    (
        "probe accuracy",
        "A logistic probe per layer is scored on rows that it was not fitted to: under paper on the last fifth of a "
        "set, under sound on all, in folds. The best layer is the one of the highest accuracy, which flatters a "
        "little: the best of many layers is lucky too.",
    ),
    (
        "text only",
        "A logistic classifier on the looks, words and letter sequences of the texts, the best of several by rows "
        "apart, on the same rows. What it reaches needs no model; only what lies above it was learnt.",
    ),
    ("chance", "Always guessing the label that most training rows have."),
    (
        "gain, above",
        "Accuracy less the best of what it is held against and one half, a coin: so it is not the difference of the "
        "numbers beside it where text only, chance or random initialisation do worse than a coin.",
    ),
    (
        "clearly above",
        "Under paper by more than 1.96 standard errors of the difference, test rows taken as independent; related "
        "rows, among the test rows or on both sides of the split, make this too hopeful. Under sound the intervals "
        "of all paired differences lie above 0, that with the layer chosen on rows apart among them.",
    ),
    (
        "I(X;T), I(Y;T)",
        "Normalised HSIC of a layer T with the first layer X, and with the label Y; no unit. Under paper there is no "
        "null to subtract: compare over checkpoints and layers, not with other measures.",
    ),
)
SOUND = (
    (
        "grouped folds",
        "Under sound each row is predicted once per repeat by a probe that was fitted to the other folds. Related rows "
        "(twins, one question, one context) are always held out together, so nothing of them can be remembered.",
    ),
    (
        "95 % interval, band",
        "How far the value depends on which statements were at hand: whole groups of related rows are drawn anew "
        "(bootstrap), or halves of the rows for information. Differences are taken on the same draws. Intervals of few "
        "groups are widened by Student's t.",
    ),
    (
        "effective groups",
        "How many groups of one size would say as much as those that there are. Below 30 an interval says little.",
    ),
    (
        "chosen layer",
        "Accuracy when each fold's layer is chosen on rows apart: the value without the luck of the best layer.",
    ),
    (
        "random initialisation",
        "The same probe on the same architecture with fresh random weights, the mean of three. What it reaches comes "
        "from the tokens and the shape of the network; only what lies above it was learnt in training. How far the "
        "three differ is part of the intervals.",
    ),
    (
        "control task, selectivity",
        "The same probe fitted to labels that were dealt out at random to the last words of statements, and scored "
        "where that word recurs among the rows it was fitted to. Selectivity is the accuracy on these rows less that "
        "(Hewitt and Liang 2019): where it is low, a probe that merely recognises words and remembers does as well.",
    ),
    (
        "calibration error (ECE)",
        "How far the probe's probabilities are from how often it is right, on average; 0.1 is one in ten. Chance alone "
        "makes it more than 0, so p says how often a calibrated probe would have as much.",
    ),
    (
        "null, p, above the null",
        "The same estimate after rows were permuted, many times: what no dependence at all would give. Its middle 95 % "
        "is the grey strip, its mean is taken off in values above the null, and p is how often it reaches the value.",
    ),
    (
        "bound on I(Y;T)",
        "The labels' entropy less the probe's held-out cross-entropy, in nats (at most 0.693 for two equal labels): "
        "the layer holds at least so much of the label. Below 0 it says nothing.",
    ),
)
DYNAMICS = (
    (
        "onset",
        "The checkpoint from which on a probe stays above its line, the largest of text only, chance and random "
        "initialisation, with an interval. It is told of the paired difference, with layers chosen on rows apart, and "
        "where that lies above 0 at two checkpoints or more; under paper, which has no such intervals, it is not told.",
    ),
    (
        "change point",
        "Where a straight line through the curve has to break off and go on otherwise, if it does. Noise may go on "
        "from one checkpoint to the next; its autocorrelation is estimated with the curve, and what may be such noise "
        "is no change.",
    ),
    (
        "turn",
        "Where a curve that rises and then falls has its peak; p is how often noise makes a curve that never turns "
        "look like that. The noise goes on from one checkpoint to the next (autoregressive of order 1) as much as the "
        "curve's own, which few checkpoints hardly show: under a dozen of them only a turn far beyond the noise has a "
        "small p. A turn of I(X;T) is what is read as fitting, then compression.",
    ),
    (
        "principal angles",
        "Between the spaces that all sets' vectors span at two checkpoints: 0° is a shared direction, 90° a new one.",
    ),
    (
        "correlation of changes",
        "Pearson's r of the differences from checkpoint to checkpoint. Curves that rise always correlate; their "
        "changes need not. An interval counts neighbours that are alike as fewer than they are, and none is given "
        "where one of the two has a trend, as most curves of pre-training have themselves, or for too few checkpoints: "
        "such a correlation says nothing of whether the two belong together.",
    ),
)
TRANSFER = (
    (
        "transfer",
        "A probe of one set (or checkpoint) tested on another, in AUROC. Far from 0.5 the two share a direction; below "
        "0.5 their labels point opposite ways along it.",
    ),
)
