INSERT INTO layer_state BY NAME
SELECT
    d.target AS class, s.depth, count(*) AS documents,
    sum(effect_units(s.gross)) AS gross, sum(effect_units(abs(s.net))) AS net,
    sum(share_units(s.effective_tokens)) AS effective_tokens, count(s.effective_tokens) AS effective_tokens_known,
    sum(share_units(s.special_share)) AS special_share, count(s.special_share) AS special_share_known,
    sum(share_units(s.rank_agreement)) AS rank_agreement, count(s.rank_agreement) AS rank_agreement_known,
    sum(share_units(s.sign_agreement)) AS sign_agreement, count(s.sign_agreement) AS sign_agreement_known,
    sum(share_units(s.context_ratio)) AS context_ratio, count(s.context_ratio) AS context_ratio_known
FROM portion_depths AS s
JOIN counted AS d ON d.doc_id = s.doc_id
GROUP BY d.target, s.depth
