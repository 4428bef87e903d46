
BprobabilitiesJ(¹K3ë“Í4Ó--ñI$3üM“5)-4$ù?%E*që×8Ï7*