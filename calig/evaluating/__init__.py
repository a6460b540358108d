"""An evaluation run over a corpus: the stages in order, what is found out beforehand, and the rows that are kept."""
