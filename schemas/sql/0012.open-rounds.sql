-- depends: 0010.suspects

-- The read API lists the rounds that are open; most rounds are not, so this stays small however many there are.
CREATE INDEX idx_rounds_open ON rounds (id) WHERE decided_at IS NULL AND closed_at IS NULL;
