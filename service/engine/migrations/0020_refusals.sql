-- 0.1.0 took every refusal at RCPT for one of the address, and silenced people after three: also those who had a full mailbox,
-- and everybody where the server refused us. What was plainly no refusal of the address is counted no longer, and who was
-- silenced by nothing else is written to again. Plainly: by the code at its place; words are not looked at.

WITH miscounted AS (
    DELETE FROM service.hard_bounce AS b USING service.delivery AS d
    WHERE d.id = b.delivery_id AND d.state = 'failed' AND d.reason = 'hard_bounce'
      AND (d.smtp_reply ~ '^#?5\.(1\.[78]|[257]\.\d{1,3})(\s|:|$)'           -- sender; mailbox, protocol, policy
           OR d.smtp_reply ~ '\(#5\.(1\.[78]|[257]\.\d{1,3})\)\s*$'          -- qmail's place
           OR d.smtp_code BETWEEN 530 AND 539                                -- log-in, encryption
           OR d.smtp_code BETWEEN 500 AND 504 AND d.smtp_reply !~ '5\.1\.')  -- commands, HELO
    RETURNING b.address, b.delivery_id
), lifted AS (
    DELETE FROM service.suppression AS s
    WHERE s.reason = 'hard_bounce' AND s.address IN (SELECT m.address FROM miscounted AS m)
      AND (SELECT count(*) FROM service.hard_bounce AS b
           WHERE b.address = s.address AND b.delivery_id NOT IN (SELECT m.delivery_id FROM miscounted AS m))
          < CASE WHEN s.detail = 'three hard bounces within 30 days' THEN 3 ELSE 1 END
    RETURNING s.address
)
INSERT INTO service.audit (who, act, what)
SELECT 'migration 0020', 'suppression.lift', jsonb_build_object('addresses', count(*)) FROM lifted HAVING count(*) > 0;
