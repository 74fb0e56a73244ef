-- Which topics there have been, by Kafka's id: one that is deleted and made again gets another id, and its offsets
-- begin at 0. The positions in active_alerts and alert_history are epoch * 2^48 + offset.
CREATE TABLE kafka_topics (
    topic    text        NOT NULL,
    topic_id text        NOT NULL,
    epoch    integer     NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, topic_id),
    UNIQUE (topic, epoch)
);
