-- Whether a device is there, as its last will or the like says on a topic that its domain declares.
ALTER TABLE devices
    ADD COLUMN online    boolean,     -- null: nothing has said
    ADD COLUMN online_at timestamptz; -- arrival of the message that said it
