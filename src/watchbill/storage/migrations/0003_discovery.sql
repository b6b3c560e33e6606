-- What the sources of `discover:` had last, so that a start with a source that is down keeps its checks.
CREATE TABLE discovered_group (
    location VARCHAR NOT NULL,
    discovery VARCHAR NOT NULL,        -- the block
    source VARCHAR NOT NULL,           -- a file and an index, a record, a namespace and a name: one row each
    content VARCHAR NOT NULL           -- JSON: [[labels of each target, ...], labels of the group]
);
