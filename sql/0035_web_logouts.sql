-- Sessions of the console that were ended before their time: a cookie alone says only until when it holds.
CREATE TABLE web_logouts (
    session_id text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL -- when the session ends by itself, and the line may go
);
